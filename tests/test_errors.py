"""Messages: what, where, how to mend."""

import pytest

from eqcrl import errors
from eqcrl.errors import EqcrlError, did_you_mean


def deliberate() -> list[type[EqcrlError]]:
    return [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, EqcrlError)]


def test_the_message_ends_with_the_mend() -> None:
    error = errors.ConfigError("It is broken.", mend="Mend it.")
    assert str(error) == "It is broken.\n  Mend it."
    assert (error.message, error.mend) == ("It is broken.", "Mend it.")
    assert str(errors.RunError("It is broken.")) == "It is broken."


@pytest.mark.parametrize("kind", deliberate(), ids=lambda c: c.__name__)
def test_every_error_is_caught_as_one_family_and_has_an_exit_code(kind: type[EqcrlError]) -> None:
    with pytest.raises(EqcrlError, match="what"):
        raise kind("what", mend="how")
    assert kind.exit_code in (1, 2)
    assert kind.__doc__


def test_mistakes_of_the_user_exit_with_two() -> None:
    user = {errors.ConfigError, errors.UnknownName, errors.NameConflict, errors.UsageError}
    assert {c for c in deliberate() if c.exit_code == 2} == user


def test_plugin_errors_are_one_family() -> None:
    family = (errors.UnknownName, errors.NameConflict, errors.BrokenPlugin)
    assert all(issubclass(c, errors.PluginError) for c in family)


@pytest.mark.parametrize(
    ("word", "known", "sentence"),
    [
        ("resnt", ["resnet", "mlp"], "Did you mean 'resnet'?"),
        ("u-maze", ["u-maze-10", "u-maze-2"], "Did you mean 'u-maze-2' or 'u-maze-10'?"),
        ("xyz", ["resnet", "mlp", "mlp"], "Known: mlp, resnet."),
        ("xyz", [], "There are none."),
        ("xyz", [f"part{i:02}" for i in range(15)], "and 3 more."),
    ],
)
def test_did_you_mean(word: str, known: list[str], sentence: str) -> None:
    assert did_you_mean(word, known).endswith(sentence)
