"""Engines run models; one file or folder an engine, all speaking the protocol of `protocol`."""
