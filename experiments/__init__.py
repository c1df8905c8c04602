"""The experiments: each module reproduces one application or idea; `python -m experiments` lists them."""
