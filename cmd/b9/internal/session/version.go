package session

import (
	"runtime"
	"runtime/debug"

	"b9.build/b9/cmd/b9/internal/output"
)

// Version says which b9 this is, as far as the build of the program recorded it.
func Version() output.Version {
	v := output.Version{Version: "devel", Revision: "unknown revision", Go: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Revision = s.Value[:min(12, len(s.Value))]
		}
	}
	return v
}
