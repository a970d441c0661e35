// Package debian has bootstrap(), which installs Debian into an image. It hides
// apt and mmdebstrap: which of the machine's sources offer a suite, how an
// archive is asked whether it has changed, the cache of downloaded packages,
// and what is taken away from an installed system so that the same packages
// give the same image.
//
// It resolves no dependencies and unpacks no packages, which mmdebstrap does,
// and checks no signatures, which apt does. It reads what apt is configured to
// and never writes it.
//
//	Bootstrap  the operation; Defaults are what the configuration says of it
//	Actions    the kinds of all actions
//
// Inside, a bootstrap (the action) picks its aptSources, an archive's release
// says which package lists there are, a resolution is the packages that they come
// to, and a staging is the system while it is installed; both run mmdebstrap as a
// tooling tells. An archiveState is what other steps follow. deb822(5) and sources.list(5) describe the sources.
package debian
