"""Every error that a user can meet, as one tree.

Each message is one line: what was expected, what was found, what to do.
"""


class PartAlignError(Exception):
    """Root of all errors raised on purpose by partalign."""


class DatasetError(PartAlignError):
    """A data folder is missing, empty, half unpacked or not in the expected layout."""


class PictureError(PartAlignError):
    """A picture cannot be read: truncated, not a picture, too large, empty."""


class VideoError(PartAlignError):
    """A video, a folder of frames or a file of boxes cannot be read, or nobody was found."""


class AnnotationError(PartAlignError):
    """A key-point file cannot be read, or does not match the crops."""


class WeightsError(PartAlignError):
    """A weight file is damaged, of another kind, or does not fit the network."""


class RecipeError(PartAlignError):
    """A recipe has an unknown key, a value out of range, or cannot be read."""


class ShapeError(PartAlignError, ValueError):
    """Arrays or tensors whose shapes do not fit each other or the network."""


class DeviceError(PartAlignError):
    """A device that torch does not know, or that this machine has not."""


class EvaluationError(PartAlignError):
    """Embeddings or records that cannot be scored (NaN, no match at all, unknown crops)."""


class MatlabError(DatasetError, EvaluationError):
    """A .mat file, be it of a data set or of descriptors, is missing, damaged or of another content."""


class ExplanationError(PartAlignError):
    """A match that cannot be explained: no part stream to name body parts by, a pooling that is no sum of places."""


class TrainingError(PartAlignError):
    """Training cannot go on: collapsed descriptors, NaN, a run folder of another recipe."""


class BenchmarkError(PartAlignError):
    """A fast form and the form it is measured against do not agree."""


class SaveError(PartAlignError):
    """A file could not be written; whatever stood there before is untouched."""


class GalleryError(PartAlignError):
    """A gallery that is missing, damaged, in use, of another model or a newer format, or a record it cannot take."""


class ShardsError(PartAlignError):
    """A folder of shards that is damaged, unfinished, or of another list, model or option; workers that died."""


class AccessError(PartAlignError):
    """A server that would stand open, or tokens that cannot be read."""


class MissingExtraError(PartAlignError):
    """An optional library is not installed; the message names the extra to install."""
