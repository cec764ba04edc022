package catalog

// What the tests of the rules look at.
var KnownCurrency = knownCurrency
