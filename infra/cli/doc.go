// Package cli is the command of a product: it runs the whole system on a laptop, scaffolds functions, writes the files
// that are derived from them, and looks into a system that is running. A product's own command is a few lines:
//
//	func main() { cli.Main(functions.System()) }
//
// An installed command that stands in another module builds that module's own command and runs it.
//
// Exit codes: 0 done; 1 failed; 2 called or configured wrongly; 130 interrupted a second time.
package cli
