"""The house rules: imports run downward, nothing is spelt by its short name, public things are documented."""

import ast
import importlib
import pathlib
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = [path for folder in ("pixelvae_tf", "train", "export") for path in sorted((ROOT / folder).rglob("*.py"))]
FLOORS = [
    *(
        "limits",
        "errors",
        "suggestions",
        "files",
        "turns",
        "control_flow",
        "interpolation",
        "xla",
        "onednn",
        "progress",
    ),
    *("standard_streams", "keras_backend", "hub", "model_card", "pixels", "noise", "pictures", "console", "heat_maps"),
    *("checks", "fields", "scores", "layers", "adam", "testing", "sampling", "distributions", "likelihoods", "bounds"),
    *("models", "config", "config_help", "data", "presets", "runs", "pretrained", "train", "codec", "export"),
]


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _floor(dotted):
    parts = dotted.split(".")
    return FLOORS.index(parts[1]) if len(parts) > 1 and parts[0] == "pixelvae_tf" and parts[1] in FLOORS else None


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downward(path):
    relative = path.relative_to(ROOT).with_suffix("")
    dotted = ".".join(relative.parts if relative.parts[0] == "pixelvae_tf" else ("pixelvae_tf", *relative.parts))
    here = _floor(dotted)
    assert here is not None or dotted == "pixelvae_tf.__init__", f"{path} has no place in FLOORS"
    for module in _imports(path):
        assert module.split(".")[0] not in ("train", "export", "tf_keras"), f"{path} imports {module}"
        there = _floor(module)
        # models.config is plain data, at the bottom of its floor.
        if here is not None and there is not None:
            assert there <= here, f"{path} imports {module}, which is above it"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_things_have_docstrings(path):
    tree = ast.parse(path.read_text())
    if not tree.body:
        return
    assert ast.get_docstring(tree), f"{path} has no docstring"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path}: {node.name} has no docstring"


def _functions(node, name="", public=True):
    """(name, node, whether it is public) of every function below a node; one inside a function is not public."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            inside = public and (not child.name.startswith("_") or child.name == "__init__")
            if isinstance(child, ast.FunctionDef):
                yield f"{name}{child.name}", child, inside
            yield from _functions(child, f"{name}{child.name}.", inside and isinstance(child, ast.ClassDef))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path):
    """350 lines a file, 60 a function, six parameters of what is public, beside self."""
    text = path.read_text()
    assert len(text.splitlines()) <= 350
    for name, function, public in _functions(ast.parse(text)):
        parameters = [argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)]
        assert function.end_lineno - function.lineno < 60, name
        assert not public or len([one for one in parameters if one not in ("self", "cls")]) <= 6, (name, parameters)


def test_flags_are_defined_in_the_mains_alone():
    for path in SOURCES:
        if path.stem == "console":  # It shows those of the mains, and defines some for them.
            tree = ast.parse(path.read_text())
            functions = (ast.FunctionDef, ast.ClassDef)
            assert not any("DEFINE" in ast.unparse(node) for node in tree.body if not isinstance(node, functions)), path
        elif not path.stem.endswith("main"):
            assert "absl.flags" not in set(_imports(path)), path


def test_the_installed_package_has_train_and_export():
    for name in ("train.trainer", "export.exporter"):
        assert importlib.import_module(f"pixelvae_tf.{name}").__name__ == f"pixelvae_tf.{name}"
    # Outside the checkout there is no package of a name so short.
    code = "import importlib.util; print(importlib.util.find_spec('train'), importlib.util.find_spec('export'))"
    outcome = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd="/", check=True)
    assert outcome.stdout.split() == ["None", "None"]


def test_what_is_installed_holds_the_trained_weights_and_the_costs(tmp_path):
    # setup.py by itself: what pyproject.toml says takes a newer setuptools than TensorFlow brings along.
    for name in ("setup.py", "README.md", "pixelvae_tf", "train", "export"):
        (tmp_path / name).symlink_to(ROOT / name)
    command = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib=build"]
    subprocess.run(command, capture_output=True, cwd=tmp_path, check=True)
    weights = (ROOT / "pixelvae_tf" / "pretrained").glob("*/*/*")
    for path in (*weights, ROOT / "pixelvae_tf" / "presets" / "costs.json"):
        assert (tmp_path / "build" / path.relative_to(ROOT)).read_bytes() == path.read_bytes()
    assert list(tmp_path.glob("build/pixelvae_tf/pretrained/*/*/model.weights.h5"))
    for name in ("page.css", "page.js"):
        assert (tmp_path / "build" / "pixelvae_tf" / "export" / "explore" / name).is_file()


def test_train_runs_as_a_module_from_a_checkout():
    command = [sys.executable, "-m", "train.main", "--list"]
    outcome = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert "digits/gated_pixel_vae" in outcome.stdout


def test_every_deliberate_fault_can_be_made():
    """`benchmarks/mutations.py`, which makes them, takes hours."""
    seen = set()
    for listed in sorted((ROOT / "benchmarks" / "mutants").glob("*.toml")):
        for name, faults in tomllib.loads(listed.read_text()).items():
            text = (ROOT / name).read_text()
            for fault in faults:
                assert text.count(fault["old"]) == 1 and fault["old"] != fault["new"], (listed.name, fault)
                assert (name, fault["old"], fault["new"]) not in seen, (listed.name, fault)
                seen.add((name, fault["old"], fault["new"]))
                file, _, function = fault["noticed_by"].partition("::")
                assert f"def {function.partition('[')[0]}(" in (ROOT / "tests" / file).read_text(), (listed.name, fault)
