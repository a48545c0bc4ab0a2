"""floodline: from an electron-microscopy volume to neurons."""
