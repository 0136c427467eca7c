"""When an answer may be trusted: signals, calibration, certification, certificates."""
