"""The fixture `render`: a page of cells, as text."""

import nbformat
import pytest
from nbformat import v4
from rendered_pages import NAVIGATION, PROVENANCE

from biomeg_lib.report import html as pages


@pytest.fixture
def render(tmp_path):
    def run(*cells, name="vocab"):
        executed, target = tmp_path / "notebooks" / f"{name}.ipynb", tmp_path / "report" / f"{name}.html"
        executed.parent.mkdir(exist_ok=True)
        nbformat.write(v4.new_notebook(cells=list(cells), metadata={"language_info": {"name": "python"}}), executed)
        pages.render_notebook(executed, target, navigation=NAVIGATION, provenance=PROVENANCE)
        return target.read_text(encoding="utf-8")

    return run
