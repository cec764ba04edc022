// Package console is the web console: pages on which a person sees a running system, understands it and mends it.
//
// It is a client of the gateway, as a browser or the command of the product is: every page is made of the operations
// that others can call too, with the token of the person who is signed in. So what a person may do is decided, and
// recorded, by the functions that do it. It consumes and emits no events and stores nothing, and may be stopped after
// any request.
//
// A person signs in with their e-mail address and password, or with a passkey, which they add and remove on the page
// Account. The tokens of the session are in cookies that no script can read and that other sites do not send; requests
// of other sites that change something are refused. A person without a role for operators is refused. Pages load
// nothing from other servers, and run no script but their own.
package console
