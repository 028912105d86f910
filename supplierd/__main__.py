"""`python -m supplierd` is the `supplierd` command."""

from supplierd.cli import main

if __name__ == "__main__":
    main()
