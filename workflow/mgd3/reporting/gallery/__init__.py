"""Stages `exhibit` and `gallery`: distilled images beside their modes and nearest real images.

`exhibit` gathers what is shown of one data set and IPC; `gallery` writes one HTML page of all of
them, which needs no network and no other file.
"""
