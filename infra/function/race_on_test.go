//go:build race

package function_test

// memoryLimit is what a request may take: 8 MiB, and half as much again for what the race detector itself allocates.
const memoryLimit = 12 << 20
