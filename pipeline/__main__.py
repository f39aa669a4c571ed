"""The command `nnclr`, and `python -m pipeline`."""

import sys

from pipeline import installation


def main() -> None:
    """Runs the command. If another project has replaced one of nnclr's packages, ends with a sentence that says so."""
    try:
        from pipeline import cli
    except ImportError:
        sentences = installation.replaced_packages()
        if not sentences:
            raise
        sys.exit("\n".join(f"Error: {sentence}" for sentence in sentences))
    cli.main()


if __name__ == "__main__":
    main()
