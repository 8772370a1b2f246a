"""Refs: an actor as others see it, an address that carries its messages.

A ref passes for its actor class (``isinstance(ref, Account)`` holds, and msgspec accepts
one where an ``Account`` is expected) but is of a class generated beside it, which has
the messages, ``key``, and nothing else. It costs no I/O and no memory elsewhere.

A ref from ``client.get`` sends through that client. One that came out of a message, a
reply's excepted, or out of a state belongs to nobody and sends through the client of
the handler that uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from actors.ids import ActorAddress
from actors.message import Bound, BoundStream, Kind, MethodSpec, Sender

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Ref:
    """Base of all refs."""

    __slots__ = ("__actor_address__", "__sender__")

    __actor_address__: ActorAddress
    __sender__: Sender | None

    @classmethod
    def make(cls, address: ActorAddress, sender: Sender | None) -> Any:
        """Return a ref to ``address`` that sends through ``sender``; ``None``: through whoever uses it."""
        ref = object.__new__(cls)
        set_attribute = object.__setattr__
        set_attribute(ref, "__actor_address__", address)
        set_attribute(ref, "__sender__", sender)
        return ref

    @property
    def key(self) -> str:
        """The actor's key."""
        return self.__actor_address__.key

    def __to_wire__(self) -> tuple[str, str]:
        return self.__actor_address__.type, self.__actor_address__.key

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ref):
            return NotImplemented
        return self.__actor_address__ == other.__actor_address__

    def __hash__(self) -> int:
        return hash(self.__actor_address__)

    def __repr__(self) -> str:
        return f"<ref {self.__actor_address__.type} {self.__actor_address__.key!r}>"

    def __copy__(self) -> Ref:
        return self

    def __deepcopy__(self, memo: object) -> Ref:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{self!r} is not pickled: send its key, or pass it as an argument of a message")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{self!r} has no {name} to be set: a ref only carries messages")


class RefMessage:
    """One message on a ref class."""

    __slots__ = ("_bound", "spec")

    def __init__(self, spec: MethodSpec) -> None:
        self.spec = spec
        self._bound: Any = BoundStream if spec.kind is Kind.STREAM else Bound

    def __get__(self, ref: Any, owner: object = None) -> Any:
        if ref is None:
            return self
        return self._bound(self.spec, ref.__actor_address__, ref.__sender__)


def ref_class(cls: type[Any], messages: Mapping[str, MethodSpec]) -> type[Ref]:
    """Return the class of refs to actors of class ``cls``."""
    names = ", ".join(sorted(messages)) or "none"

    def missing(self: Ref, name: str) -> NoReturn:
        kind = "is not a message of" if hasattr(cls, name) or name in getattr(cls, "__annotations__", {}) else "does not exist on"
        raise AttributeError(f"{name} {kind} {cls.__name__}: a ref only carries messages ({names})", name=name, obj=self)

    def listed(_self: Ref) -> Iterable[str]:
        return sorted({*messages, "key"})

    namespace: dict[str, Any] = {
        "__slots__": (),
        "__doc__": cls.__doc__,
        "__module__": cls.__module__,
        "__qualname__": f"{cls.__qualname__}Ref",
        "__class__": property(lambda _self: cls),
        "__getattr__": missing,
        "__dir__": listed,
    }
    namespace |= {name: RefMessage(spec) for name, spec in messages.items()}
    return type(f"{cls.__name__}Ref", (Ref,), namespace)


def address_of(ref: Any) -> ActorAddress:
    """Return the address of a ref, or of a live actor. ``TypeError`` for anything else."""
    address = getattr(ref, "__actor_address__", None)
    if not isinstance(address, ActorAddress):
        raise TypeError(f"{ref!r} is not a ref")
    return address
