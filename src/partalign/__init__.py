"""partalign: find the same person again.

Part-aligned bilinear representations for person re-identification (Suh et al., ECCV 2018).
"""

__version__ = "0.1.0"
