package main

import (
	"context"
	"errors"
	"fmt"
)

func power(context.Context, *options) (fmt.Stringer, error) { return nil, errors.New("later") }
