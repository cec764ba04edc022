package payments

// NewWith lets tests choose the provider.
var NewWith = newWith
