"""What is remembered of the files that are open: the text that offset 0 rendered, within one budget for all of them.

Pure bookkeeping, single-threaded: only the event loop uses it.

A reader at another offset must get a slice of what offset 0 gave, so that chunks fit together. Texts are therefore kept
while there is room. Beyond the budget the *owner* (pid namespace) that holds most of it loses texts first, so that a
container with thousands of open files spoils its own reads and nobody else's. Within an owner those go first that a
single read delivered whole, then the least recently used. A reader whose text is gone gets a fresh
rendering from its offset on.
"""

from collections import OrderedDict

BUDGET_BYTES = 16 << 20
"""Enough for some thousand meminfo texts, or 40 of cpuinfo on a host of 256 CPUs."""


class KeptTexts:
    """Texts by file handle and owner, never more than ``budget_bytes`` of them."""

    def __init__(self, budget_bytes: int = BUDGET_BYTES) -> None:
        self._budget_bytes = budget_bytes
        self._held_bytes = 0
        self._texts: dict[int, OrderedDict[int, bytes]] = {}
        self._owned_bytes: dict[int, int] = {}

    @property
    def held_bytes(self) -> int:
        """How many bytes are kept now."""
        return self._held_bytes

    def get(self, owner: int, handle: int) -> bytes | None:
        """The text kept for ``handle``, or None when there is none any more."""
        texts = self._texts.get(owner)
        text = texts.get(handle) if texts is not None else None
        if texts is not None and text is not None:
            texts.move_to_end(handle)
        return text

    def keep(self, owner: int, handle: int, text: bytes, *, delivered: bool) -> None:
        """Keep ``text`` instead of what ``handle`` had. ``delivered``: its reader has it all and hardly comes back."""
        self.drop(owner, handle)
        if len(text) > self._budget_bytes:
            return
        texts = self._texts.setdefault(owner, OrderedDict())
        texts[handle] = text
        if delivered:
            texts.move_to_end(handle, last=False)
        self._held_bytes += len(text)
        self._owned_bytes[owner] = self._owned_bytes.get(owner, 0) + len(text)
        while self._held_bytes > self._budget_bytes:
            greediest = max(self._owned_bytes, key=self._owned_bytes.__getitem__)
            self.drop(greediest, next(iter(self._texts[greediest])))

    def drop(self, owner: int, handle: int) -> None:
        """Forget the text of ``handle``, if any."""
        texts = self._texts.get(owner)
        text = texts.pop(handle, None) if texts is not None else None
        if text is None:
            return
        self._held_bytes -= len(text)
        self._owned_bytes[owner] -= len(text)
        if not self._texts[owner]:
            del self._texts[owner], self._owned_bytes[owner]
