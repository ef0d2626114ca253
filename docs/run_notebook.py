"""Runs the notebook, but for the cells that install, and writes it back with its pictures.

python docs/run_notebook.py
"""

import copy
import pathlib

import nbclient
import nbformat

PATH = pathlib.Path(__file__).parent / "notebooks" / "first_digit.ipynb"


def run(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy of a notebook with what its cells give; those tagged "skip-execution" are left out.

    Messages of TensorFlow belong to the machine, and a JPEG beside each PNG only takes room: neither is kept.
    """
    executed = nbclient.NotebookClient(copy.deepcopy(notebook), timeout=600).execute()
    for cell in executed.cells:
        cell.metadata.pop("execution", None)  # when it ran
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            output.get("data", {}).pop("image/jpeg", None)
    return executed


def main() -> None:
    """Runs it in place."""
    notebook = run(nbformat.read(PATH, as_version=4))
    notebook.metadata.language_info = {"name": "python"}  # without the version that it ran on
    nbformat.write(notebook, PATH)


if __name__ == "__main__":
    main()
