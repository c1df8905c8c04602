"""The experiments: each package reproduces one application or idea; `python -m experiments` lists them."""
