"""Stores: tables in whole files, shared by processes, checked."""
