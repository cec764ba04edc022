package main

import "context"

func scaffold(context.Context, *tool, []string) error { return nil }
