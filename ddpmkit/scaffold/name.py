"""The name of a new plugin, and the names derived from it: distribution, package, classes."""

import re
from dataclasses import dataclass

from ddpmkit.errors import InputError
from ddpmkit.plugin.finder import BUILTIN_NAMESPACE, LOCAL_NAMESPACE

__all__ = ["PluginName"]

_WORD = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_EXAMPLE = "use a name like acme/zigzag: a namespace of your choice, and the name of the component"
_RESERVED_NAMES = ("component",)
"""The config class would have the name of its base class, `ComponentConfig`."""


@dataclass(frozen=True)
class PluginName:
    """`namespace/name`, as in the `use` of a recipe."""

    namespace: str
    name: str

    @classmethod
    def parse(cls, text: str) -> "PluginName":
        """Parse `acme/zigzag`; `acme-zigzag` is split at the first hyphen. Raises InputError if it is invalid."""
        namespace, _, name = text.partition("/" if "/" in text else "-")
        if not namespace or not name:
            raise InputError(f"{text!r} does not have the form namespace/name.", remedies=[_EXAMPLE])
        for what, word in (("namespace", namespace), ("name", name)):
            if not _WORD.fullmatch(word):
                raise InputError(
                    f"the {what} {word!r} must be lower-case words joined by hyphens: letters a to z and digits, with "
                    "a letter first.",
                    remedies=[_suggested(namespace, name)],
                )
        if namespace.split("-")[0] == BUILTIN_NAMESPACE:
            own = text.removeprefix(BUILTIN_NAMESPACE).lstrip("-/")
            own = own if "/" in own else own.replace("-", "/", 1)
            raise InputError(
                f"{text!r} begins with {BUILTIN_NAMESPACE!r}, which is reserved for ddpmkit itself.",
                remedies=[
                    f"{own}: the prefix {BUILTIN_NAMESPACE}- is added to the distribution automatically"
                    if "/" in own
                    else _EXAMPLE
                ],
            )
        if namespace == LOCAL_NAMESPACE:
            raise InputError(
                f"the namespace {namespace!r} is reserved for single files (--plugin FILE).",
                remedies=[_EXAMPLE],
            )
        if name in _RESERVED_NAMES:
            raise InputError(f"the name {name!r} is reserved.", remedies=[_EXAMPLE])
        return cls(namespace, name)

    @property
    def distribution(self) -> str:
        """The name for `pip install`."""
        return f"ddpmkit-{self.namespace}-{self.name}"

    @property
    def package(self) -> str:
        """The Python package. The prefix `ddpmkit_` makes it unique, and never a keyword."""
        return self.distribution.replace("-", "_")

    @property
    def config_name(self) -> str:
        """The name of the config class."""
        return f"{self._camel}Config"

    def class_name(self, kind: str) -> str:
        """The name of the component's class."""
        ending = kind.capitalize()
        return self._camel if self._camel.endswith(ending) else f"{self._camel}{ending}"

    @property
    def _camel(self) -> str:
        return "".join(word.capitalize() for word in self.name.split("-"))

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def _suggested(*words: str) -> str:
    fixed = [re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-0123456789") for word in words]
    valid = all(_WORD.fullmatch(word) for word in fixed) and fixed[0] not in (BUILTIN_NAMESPACE, LOCAL_NAMESPACE)
    return "/".join(fixed) if valid else _EXAMPLE
