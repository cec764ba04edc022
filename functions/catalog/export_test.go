package catalog

// Exported for the tests of this package.
var KnownCurrency = knownCurrency
