"""Reference capture client: video files, RTSP and V4L2 cameras to supplierd (`supplierd-capture`, needs PyAV)."""
