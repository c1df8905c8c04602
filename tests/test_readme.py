"""What the README shows works."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


def test_the_code_runs():
    """One block after the other, as a reader would type them."""
    names: dict = {}
    last = []
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for code in blocks:
        exec(compile(code, "README.md", "exec"), names)
        last.append(names["outputs"].shape)
    assert last == [(32, 100, 128), (32, 100, 256), (32, 100, 128), (32, 100, 128)]
    assert names["hypotheses"].tokens.shape == (32, 5, 50)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_links_lead_somewhere(link):
    assert (Path(__file__).parent.parent / link).exists()
