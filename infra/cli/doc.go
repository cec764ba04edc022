// Package cli implements the command of a product. It runs the whole system in one process, scaffolds functions, writes
// the files that are derived from them, and inspects a running system. A product's own command is a few lines:
//
//	func main() { cli.Main(functions.System()) }
//
// An installed command that is called in another module builds and runs that module's own command.
//
// Exit codes: 0 success; 1 failure; 2 wrong arguments or configuration; 130 interrupted a second time.
package cli
