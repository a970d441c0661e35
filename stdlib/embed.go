// Package stdlib holds the rule libraries that come with b9. A build file
// loads one with load("@b9//NAME.star", ...). The package only embeds.
package stdlib

import "embed"

// FS holds every library at its top level, as NAME.star.
//
//go:embed *.star
var FS embed.FS
