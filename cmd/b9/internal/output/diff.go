package output

// Diff is in what two images or directories differ.
type Diff struct {
	A       string       `json:"a"`
	B       string       `json:"b"`
	Same    bool         `json:"same"`
	Changes []Differs    `json:"changes,omitempty"` // of the whole
	Offset  *int64       `json:"offset,omitempty"`  // of the first byte that differs, where nothing else tells
	Lines   []string     `json:"lines,omitempty"`   // as diff -u has them, of texts
	Volumes []VolumeDiff `json:"volumes,omitempty"`
}

// Differs is one thing that differs; empty where a side has none.
type Differs struct {
	What string `json:"what"`
	A    string `json:"a"`
	B    string `json:"b"`
}

// VolumeDiff is a partition, a file system or a directory. Only is a or b where the other
// side has no such partition.
type VolumeDiff struct {
	Partition  int       `json:"partition,omitempty"`
	FileSystem string    `json:"file_system,omitempty"`
	Only       string    `json:"only,omitempty"`
	Changes    []Differs `json:"changes,omitempty"`
	Offset     *int64    `json:"offset,omitempty"` // of the first byte that differs, where nothing else tells
	FileDiffs
}

// FileDiffs are the files and packages that differ.
type FileDiffs struct {
	Packages []PackageDiff `json:"packages,omitempty"`
	Files    []FileDiff    `json:"files,omitempty"`
}

// Same reports whether nothing differs.
func (d FileDiffs) Same() bool { return len(d.Packages) == 0 && len(d.Files) == 0 }

// PackageDiff is a Debian package: its versions, empty where it is not installed.
type PackageDiff struct {
	Package string `json:"package"` // name:architecture
	A       string `json:"a"`
	B       string `json:"b"`
}

// FileDiff is a file that differs: added, removed or changed. Of one that only one side
// has there are type, size and, of a directory, how much is below it.
type FileDiff struct {
	Path    string    `json:"path"`
	Change  string    `json:"change"`
	Type    string    `json:"type,omitempty"`
	Size    int64     `json:"size,omitempty"`  // bytes
	Below   int       `json:"below,omitempty"` // files
	Changes []Differs `json:"changes,omitempty"`
	Offset  *int64    `json:"offset,omitempty"` // of the first byte of the content that differs
	Lines   []string  `json:"lines,omitempty"`  // as diff -u has them, of texts
}
