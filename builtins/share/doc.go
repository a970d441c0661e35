// Package share has share() and shared(), which publish images and use those
// that were published. It hides what a name resolves to and b9.lock, which holds
// that; the images that this machine shares, whose contents the store keeps; and
// what of an image is here already when it is fetched.
//
// It knows no layout of repositories and no protocol: package repo does, and
// whoever embeds this package opens repositories for it.
//
//	Share, Shared      the operations
//	Images, Config     what they reach while a build runs: one Images is among
//	                   the Services of the engine, and of builtins.Settings
//	Locked, LockFile   an entry of b9.lock
//	LocalImages        what this machine shares, with Pull and Fetch
//	Published          what a build published
//	Prefix             shared:NAME, a pattern that stands for a shared image
//	Actions            the kinds of all actions
package share
