package repository

import (
	"fmt"
	"io"
	"strings"
	"time"

	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/repo"
	"b9.build/b9/engine/size"
)

// shortDigest is enough of a digest for people; nothing for an image of a
// repository that knows none.
func shortDigest(d repo.Digest) string {
	if d.IsZero() {
		return "-"
	}
	return d.String()[:15]
}

// printVersions prints versions as a table, or as JSON.
func printVersions(s *session.Session, versions []repo.Version) error {
	if s.JSON {
		if versions == nil {
			versions = []repo.Version{}
		}
		return s.Print(output.Images{Images: versions})
	}
	rows := [][]string{{"NAME", "VERSION", "FORMAT", "SIZE", "DATA", "CREATED", "DIGEST"}}
	for _, v := range versions {
		rows = append(rows, []string{v.Name, v.Version, v.Format, size.About(v.Size), size.About(v.Data), v.Created.Local().Format(time.DateTime), shortDigest(v.Digest)})
	}
	return output.Table(s.Out, rows)
}

// printLong prints versions in a few lines each.
func printLong(w io.Writer, versions []repo.Version) error {
	var text []byte
	for _, v := range versions {
		whole := v.Digest.String()
		if v.Digest.IsZero() {
			whole = "" // see shortDigest
		}
		text = fmt.Appendf(text, "%s@%s\n", v.Name, v.Version)
		for _, line := range [][2]string{
			{"content", whole},
			{"format", strings.Join(append([]string{v.Format}, v.FileSystems...), ", ")},
			{"size", fmt.Sprintf("%s, %s of them data", size.About(v.Size), size.About(v.Data))},
			{"created", v.Created.Local().Format(time.DateTime)},
			{"made from", v.Parent},
			{"made by", strings.Trim(v.Origin.User+"@"+v.Origin.Host, "@")},
			{"target", v.Origin.Label},
			{"source", strings.TrimSpace(v.Origin.Source + " " + v.Origin.Commit)},
			{"b9", v.Origin.B9},
			{"key", v.Key},
		} {
			if line[1] != "" {
				text = fmt.Appendf(text, "    %-10s %s\n", line[0], line[1])
			}
		}
	}
	_, err := w.Write(text)
	return err
}
