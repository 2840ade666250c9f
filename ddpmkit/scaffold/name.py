"""The name of a new plugin, and the names that follow from it."""

import re
from dataclasses import dataclass

from ddpmkit.errors import InputError
from ddpmkit.plugin.finder import BUILTIN_NAMESPACE, LOCAL_NAMESPACE

__all__ = ["PluginName"]

_WORD = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_EXAMPLE = "a name like acme/zigzag: a namespace of your own, and what the component is called in it"
_CLASHING = ("component",)
"""Its config class would hide `ComponentConfig`, which it is made of."""


@dataclass(frozen=True)
class PluginName:
    """`namespace/name`, as recipes will write it."""

    namespace: str
    name: str

    @classmethod
    def parse(cls, text: str) -> "PluginName":
        """`acme/zigzag`; `acme-zigzag`, parted at its first hyphen, is the same. Raises InputError, and says why."""
        namespace, _, name = text.partition("/" if "/" in text else "-")
        if not namespace or not name:
            raise InputError(f"{text!r} names no namespace and component.", remedies=[_EXAMPLE])
        for what, word in (("namespace", namespace), ("name", name)):
            if not _WORD.fullmatch(word):
                raise InputError(
                    f"the {what} {word!r} is not made of lower-case words joined by hyphens: a to z and digits, and a "
                    "letter first.",
                    remedies=[_suggested(namespace, name)],
                )
        if namespace.split("-")[0] == BUILTIN_NAMESPACE:
            own = text.removeprefix(BUILTIN_NAMESPACE).lstrip("-/")
            own = own if "/" in own else own.replace("-", "/", 1)
            raise InputError(
                f"{text!r} begins with {BUILTIN_NAMESPACE!r}, which is the namespace of ddpmkit itself.",
                remedies=[
                    f"{own}: its distribution is called {BUILTIN_NAMESPACE}-... by itself" if "/" in own else _EXAMPLE
                ],
            )
        if namespace == LOCAL_NAMESPACE:
            raise InputError(
                f"the namespace {namespace!r} is that of files given by --plugin, and open to no package.",
                remedies=[_EXAMPLE],
            )
        if name in _CLASHING:
            raise InputError(
                f"{name!r} says nothing of what it is, and clashes with names of ddpmkit.", remedies=[_EXAMPLE]
            )
        return cls(namespace, name)

    @property
    def distribution(self) -> str:
        """What `pip install` will call it."""
        return f"ddpmkit-{self.namespace}-{self.name}"

    @property
    def package(self) -> str:
        """What Python will import: never a keyword, and no other package's name, for it begins with ours."""
        return self.distribution.replace("-", "_")

    @property
    def config_name(self) -> str:
        """The class of its config."""
        return f"{self._camel}Config"

    def class_name(self, kind: str) -> str:
        """The class of the component."""
        ending = kind.capitalize()
        return self._camel if self._camel.endswith(ending) else f"{self._camel}{ending}"

    @property
    def _camel(self) -> str:
        return "".join(word.capitalize() for word in self.name.split("-"))

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def _suggested(*words: str) -> str:
    mended = [re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-0123456789") for word in words]
    good = all(_WORD.fullmatch(word) for word in mended) and mended[0] not in (BUILTIN_NAMESPACE, LOCAL_NAMESPACE)
    return "/".join(mended) if good else _EXAMPLE
