import pytest

from ddpmkit.errors import InputError
from ddpmkit.scaffold import PluginName


@pytest.mark.parametrize(
    ("text", "id_", "distribution", "package"),
    [
        ("acme/zigzag", "acme/zigzag", "ddpmkit-acme-zigzag", "ddpmkit_acme_zigzag"),
        ("acme-zigzag", "acme/zigzag", "ddpmkit-acme-zigzag", "ddpmkit_acme_zigzag"),
        ("acme-zig-zag", "acme/zig-zag", "ddpmkit-acme-zig-zag", "ddpmkit_acme_zig_zag"),
        ("my-lab/zig-zag2", "my-lab/zig-zag2", "ddpmkit-my-lab-zig-zag2", "ddpmkit_my_lab_zig_zag2"),
        ("lambda/class", "lambda/class", "ddpmkit-lambda-class", "ddpmkit_lambda_class"),
    ],
)
def test_all_names_are_derived_from_one(text: str, id_: str, distribution: str, package: str) -> None:
    name = PluginName.parse(text)
    assert (str(name), name.distribution, name.package) == (id_, distribution, package)
    assert name.package.isidentifier()


def test_the_kind_is_not_repeated_in_the_class_name() -> None:
    assert PluginName.parse("acme/zig-zag").class_name("schedule") == "ZigZagSchedule"
    assert PluginName.parse("acme/my-schedule").class_name("schedule") == "MySchedule"


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("zigzag", "'zigzag' does not have the form namespace/name", "use a name like acme/zigzag"),
        ("/zigzag", "does not have the form", "use a name like acme/zigzag"),
        ("acme/", "does not have the form", "use a name like acme/zigzag"),
        ("", "does not have the form", "use a name like acme/zigzag"),
        ("Acme/Zig_Zag", "the namespace 'Acme' must be lower-case words", "acme/zig-zag"),
        ("acme/zig zag", "the name 'zig zag' must be", "acme/zig-zag"),
        ("acme/2fast", "the name '2fast' must be", "acme/fast"),
        ("acme/zig--zag", "the name 'zig--zag'", "acme/zig-zag"),
        ("acme/zig/zag", "the name 'zig/zag'", "acme/zig-zag"),
        ("acme/../evil", "the name '../evil'", "acme/evil"),
        ("acme/zigzäg", "the name 'zigzäg'", "acme/zigz-g"),
        ("ddpmkit/zigzag", "which is reserved for ddpmkit itself", "use a name like acme/zigzag"),
        ("ddpmkit-acme-zigzag", "which is reserved for ddpmkit itself", "acme/zigzag: the prefix ddpmkit- is added"),
        ("ddpmkit-acme/zigzag", "which is reserved for ddpmkit itself", "acme/zigzag: the prefix ddpmkit- is added"),
        ("local/zigzag", "reserved for single files", "use a name like acme/zigzag"),
        ("acme/component", "the name 'component' is reserved", "use a name like acme/zigzag"),
    ],
)
def test_an_invalid_name_is_rejected_with_a_suggestion(text: str, message: str, remedy: str) -> None:
    with pytest.raises(InputError) as refused:
        PluginName.parse(text)
    assert message in refused.value.message
    assert refused.value.remedies[0].startswith(remedy)
