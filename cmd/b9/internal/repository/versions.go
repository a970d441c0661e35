package repository

import (
	"fmt"
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

// showVersions prints versions as a document, or as the text.
func showVersions(s *session.Session, versions []repo.Version, text string) error {
	if versions == nil {
		versions = []repo.Version{}
	}
	return s.Show(output.Images{Images: versions}, text)
}

// printVersions prints versions as a document, or as a table.
func printVersions(s *session.Session, versions []repo.Version) error {
	rows := [][]string{{"NAME", "VERSION", "FORMAT", "SIZE", "DATA", "CREATED", "DIGEST"}}
	for _, v := range versions {
		rows = append(rows, []string{v.Name, v.Version, v.Format, size.About(v.Size), size.About(v.Data), v.Created.Local().Format(time.DateTime), shortDigest(v.Digest)})
	}
	return showVersions(s, versions, output.Table(rows))
}

// inLong is a few lines on each of the versions.
func inLong(versions []repo.Version) string {
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
	return string(text)
}
