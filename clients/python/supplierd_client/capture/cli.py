"""The command `supplierd-capture`: parse, publish, say what was done, exit.

Rules: SIGTERM, SIGINT and the end of the source exit with 0; a source or inbox that cannot be used with 1; a wrong
option with 2. A second signal kills. PyAV is imported only when the command runs, so that `--help` needs nothing.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
from collections.abc import Callable
from contextlib import closing
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from supplierd_client.capture.encode import PixelFormat, Size

LARGEST_SIDE = 16384  # pixels; twice an 8K camera's
LARGEST_AREA = 8192 * 8192  # pixels; FFmpeg scales no more than four times that
LONGEST = 10 * 365 * 86400.0  # seconds


class SizeType(click.ParamType[tuple[int, int]]):
    """WIDTHxHEIGHT in pixels, as (width, height)."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Parse `value`; fails with what is expected."""
        parts = str(value).lower().split("x")
        if (
            len(parts) != 2 or not all(p.isdecimal() and 0 < int(p) <= LARGEST_SIDE for p in parts)
            or int(parts[0]) * int(parts[1]) > LARGEST_AREA
        ):  # fmt: skip
            self.fail(
                f"{value!r} is not a size; expected WIDTHxHEIGHT in pixels, such as 640x360, "
                f"each from 1 to {LARGEST_SIDE}, and at most {LARGEST_AREA} together",
                param,
                ctx,
            )
        return int(parts[0]), int(parts[1])


class NumberType(click.FloatRange):
    """A number above 0 and up to `most`, which nan and inf are not."""

    def __init__(self, most: float) -> None:
        super().__init__(0, most, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse `value`; fails with what is expected."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("source")
@click.option("--stream", required=True, help="Name of the stream to publish.")
@click.option("--inbox", help="Inbox endpoint, such as tcp://127.0.0.1:5601.  [default: in the runtime directory]")
@click.option("--runtime-dir", help="The daemon's runtime directory.  [default: found as the daemon does]")
@click.option("--key", envvar="SUPPLIERD_KEY", metavar="FILE", help="The publisher's secret key file, for tcp.")
@click.option(
    "--server-key", envvar="SUPPLIERD_SERVER_KEY", metavar="FILE", help="The daemon's public key file, for tcp."
)
@click.option("--encoding", type=click.Choice(["raw", "jpeg"]), default="raw", show_default=True)
@click.option("--quality", type=click.IntRange(1, 100), default=80, show_default=True, help="Of JPEG.")
@click.option(
    "--pixel-format",
    type=click.Choice(["bgr24", "rgb24", "gray"]),
    default="bgr24",
    show_default=True,
    help="Of raw frames.",
)
@click.option("--size", type=SizeType(), help="Scale to this size.  [default: as the source]")
@click.option(
    "--fps",
    type=NumberType(1000),
    help="Publish at most so many frames a second.  [default: all]",
)
@click.option("--loop", is_flag=True, help="Play a file over and over.")
@click.option(
    "--shared-memory",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    show_default=True,
    help="Pass pixels through shared memory.",
)
@click.option("--seconds", type=NumberType(LONGEST), help="Stop after this time.")
@click.option("--frames", type=click.IntRange(1), help="Stop after so many published frames.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def main(
    *,
    source: str,
    stream: str,
    inbox: str | None,
    runtime_dir: str | None,
    key: str | None,
    server_key: str | None,
    encoding: str,
    quality: int,
    pixel_format: PixelFormat,
    size: Size | None,
    fps: float | None,
    loop: bool,
    shared_memory: Literal["auto", "on", "off"],
    seconds: float | None,
    frames: int | None,
    log_level: str,
) -> None:
    """Publish the video of SOURCE to supplierd: a file, an rtsp:// address or a /dev/videoN device.

    A file is played at its own pace. A camera that goes away is tried again until it is back.
    """
    logging.basicConfig(level=log_level.upper(), format=f"{stream}: %(levelname)s: %(message)s")
    try:
        from supplierd_client.capture.encode import JpegEncoder, RawEncoder
        from supplierd_client.capture.feed import feed, jpeg_sender, raw_sender
        from supplierd_client.capture.live import LiveSource
        from supplierd_client.capture.replay import FileSource
        from supplierd_client.capture.source import EXPECTED, Source, SourceError, kind_of, log, redact
    except ModuleNotFoundError as error:
        if error.name != "av":
            raise
        raise click.ClickException('PyAV is missing; install it with: pip install "supplierd[capture]"') from None
    from supplierd.notify import Notifier
    from supplierd_client import ClientError, Publisher

    notifier = Notifier()
    stop_by = on_signal()  # before anything runs that a signal may be meant for
    try:
        opened: Source
        if kind_of(source) == "file":
            opened = FileSource(source, loop=loop)
        else:
            opened = LiveSource(source, alive=notifier.alive)
        stop_by(opened.close)
        publisher = Publisher(
            stream, inbox, shared_memory=shared_memory, runtime_dir=runtime_dir, key=key, server_key=server_key
        )
    except (SourceError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    try:
        with closing(opened), publisher:
            if not publisher.connected:
                log.warning("no daemon at %s yet: frames are dropped until there is one", publisher.endpoint)
            if seconds is not None:
                call_after(seconds, opened.close)
            if encoding == "jpeg":
                send = jpeg_sender(publisher, JpegEncoder(quality, size))
            else:
                send = raw_sender(publisher, RawEncoder(pixel_format, size))
            notifier.ready()
            published = feed(opened, send, fps=fps, frames=frames, alive=notifier.alive)
    except SourceError as error:
        raise click.ClickException(f"{redact(source)}: {error}; expected {EXPECTED}") from error
    except ClientError as error:
        raise click.ClickException(str(error)) from error
    click.echo(
        f"{stream}: published {published}, of which {publisher.unsent} found no daemon; "
        f"skipped {opened.skipped}; reconnects {opened.reconnects}",
        err=True,
    )


def call_after(seconds: float, stop: Callable[[], None]) -> None:
    """Call `stop` after so many seconds, in a thread of its own that does not outlive the process."""
    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()


def on_signal() -> Callable[[Callable[[], None]], None]:
    """Have SIGTERM and SIGINT call once, in a thread of its own, what the result is called with; a second signal acts
    as it would by default.

    The handler itself only puts into a SimpleQueue, which is safe wherever the signal interrupts the main thread.
    """
    received: SimpleQueue[int] = SimpleQueue()
    stops: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def handle(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        received.put(number)

    def serve() -> None:
        received.get()
        stops.get()()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    threading.Thread(target=serve, name="signals", daemon=True).start()
    return stops.put
