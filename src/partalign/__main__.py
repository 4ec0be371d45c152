"""`python -m partalign` is the `partalign` command."""

from partalign.cli import main

main()
