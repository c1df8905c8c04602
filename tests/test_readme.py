"""What README and documents show works."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKS = [
    (path, link)
    for path in DOCUMENTS
    for link in re.findall(r"\]\(([^)#]+)\)", path.read_text("utf-8"))
    if "://" not in link
]


@pytest.mark.parametrize("name", ["README.md", "docs/guide.md"])
def test_the_code_runs(name):
    """One block after the other, as a reader would type them."""
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text("utf-8"), re.DOTALL)
    assert blocks
    shapes = []
    for code in blocks:
        exec(compile(code, name, "exec"), names)
        shapes.append(names["outputs"].shape)
    assert shapes[0] == (32, 100, 128)
    if name == "docs/guide.md":
        usual = (32, 100, 128)
        assert shapes[1:] == [usual, (32, 100, 256), usual, usual, usual]
        assert names["hypotheses"].tokens.shape == (32, 5, 50)


@pytest.mark.parametrize("name", ["first-hour.md", "backends.md", "sharding.md"])
def test_the_code_of_the_pages_runs(name):
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / name).read_text("utf-8"), re.DOTALL)
    for code in blocks:
        exec(compile(code, name, "exec"), names)
    assert names["outputs"].shape[-1] == names["cell"].output_size
    if name == "first-hour.md":
        assert names["error"] < 0.2, "it has learnt to add"


@pytest.mark.parametrize(("path", "link"), LINKS)
def test_links_lead_somewhere(path, link):
    assert (path.parent / link).exists()


def test_the_readme_is_short():
    assert len(DOCUMENTS[0].read_text("utf-8").splitlines()) < 150
