"""Videos -> crops of people in tracklets: decode, detect, track, cut, store. Imports no torch."""

from partalign.people.find import Found, Settings, find_people

__all__ = ["Found", "Settings", "find_people"]
