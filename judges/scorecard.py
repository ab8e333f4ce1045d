FAST=None
