"""Bytes: files from Kaggle's storage to the workspace, each checked, whatever happens on the way.

A transfer reads one remote object by Range requests, which outlive cuts, stalls, expired addresses
and the death of the process. Archives are unpacked while they pass, member by member, into a
staging folder; every member is checked against its archive's checksum and the whole against the
storage's. A member that must not be unpacked is refused alone, with a reason. What reads formats
(`zips`, `tars`, `members`) does no I/O of its own.
"""
