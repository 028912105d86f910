"""`python -m supplierd_client.capture` is the `supplierd-capture` command."""

from supplierd_client.capture.cli import main

if __name__ == "__main__":
    main()
