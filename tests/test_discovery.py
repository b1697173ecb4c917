"""A file is a registration; what is no method, or no name of one, is said."""

import dataclasses
import subprocess
import sys
import textwrap

import pytest

from jaxmtl import discovery, models


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of methods, `methods`, with two files."""
    package = tmp_path / "methods"
    package.mkdir()
    (package / "__init__.py").write_text('"""Some methods."""\n')
    for name, kind in {"plain_sum": "PlainSum", "gradnorm": "GradNorm"}.items():
        (package / f"{name}.py").write_text(
            textwrap.dedent(
                f'''
                """The method {kind}.

                More of it.
                """
                import dataclasses

                @dataclasses.dataclass(frozen=True)
                class {kind}:
                    factor: float = 2.0

                def {name}(options, x, *, more=0):
                    return options.factor * x + more
                '''
            ).lstrip()
        )
    monkeypatch.syspath_prepend(tmp_path)
    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == "methods"]:
        del sys.modules[name]


def test_a_file_is_a_name_and_its_first_line_says_what_it_is(folder):
    said = {"gradnorm": "The method GradNorm.", "plain_sum": "The method PlainSum."}
    assert discovery.names("methods") == said
    assert "methods.gradnorm" not in sys.modules  # reading text imports nothing
    assert discovery.files("methods")["gradnorm"] == folder / "gradnorm.py"


def test_the_options_of_a_file_make_its_method(folder):
    for name in discovery.names("methods"):
        kind = discovery.options("methods", name)
        assert kind.__name__.lower() == name.replace("_", "")
        assert discovery.name_of(kind()) == name
        assert discovery.make(kind(factor=3.0), 2, more=1) == 7
    assert set(discovery.all_options("methods")) == set(discovery.names("methods"))


def test_a_name_that_is_none_is_refused_with_the_nearest(folder):
    with pytest.raises(ValueError, match=r"no 'gradnrm'; did you mean 'gradnorm'\?"):
        discovery.load("methods", "gradnrm")
    with pytest.raises(ValueError, match="there are gradnorm, plain_sum"):
        discovery.load("methods", "zzz")


def test_a_file_without_the_options_or_the_function_of_its_name_is_named(folder):
    (folder / "helper.py").write_text('"""Helps."""\n')
    with pytest.raises(ValueError, match=r"helper\.py holds no class Helper"):
        discovery.all_options("methods")
    (folder / "helper.py").write_text("class Helper: pass\n")
    sys.modules.pop("methods.helper")
    with pytest.raises(ValueError, match="has no function"):
        discovery.make(discovery.options("methods", "helper")())


def test_what_is_no_folder_is_refused():
    with pytest.raises(ValueError, match="jaxmtl.types is no folder of methods"):
        discovery.files("jaxmtl.types")


def test_classes_of_a_folder_are_attributes_of_its_package():
    from jaxmtl.models import mmoe

    assert models.Mmoe is mmoe.Mmoe
    assert models.mmoe is mmoe
    for name in ("Nothing", "mmoE_", "crossing"):
        with pytest.raises(AttributeError, match=name):
            getattr(models, name)


def test_names_are_told_without_a_start_of_jax():
    code = (
        "import sys; from jaxmtl import discovery; discovery.names('jaxmtl.models');"
        "assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "folder",
    [
        "jaxmtl.balancing.methods",
        "jaxmtl.metrics.methods",
        "jaxmtl.models",
        "jaxmtl.optim.optimisers",
        "jaxmtl.optim.schedules",
        "jaxmtl.sparsity.finders",
    ],
)
def test_options_of_one_value_are_one_key_and_cannot_be_changed(folder):
    """By them programs are found again."""
    for kind in discovery.all_options(folder).values():
        assert hash(kind()) == hash(kind()) and kind() == kind()
        for field in dataclasses.fields(kind)[:1]:
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(kind(), field.name, None)
        with pytest.raises(
            (dataclasses.FrozenInstanceError, AttributeError, TypeError)
        ):
            kind().other = 1
