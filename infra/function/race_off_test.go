//go:build !race

package function_test

// memoryLimit is what a request may take: 8 MiB.
const memoryLimit = 8 << 20
