package repo

import (
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// memory is where temporary files lie in memory, and memoryLeast what has to
// be free there in bytes.
const (
	memory      = "/dev/shm"
	memoryLeast = 6 << 30
)

// onDisk is the directory for temporary files that lie on a disk.
var onDisk = os.TempDir()

// TestMain puts temporary files into memory where there is room: these tests
// flush hundreds of files, and wait for a disk nine tenths of their time.
// They wait for servers, too, so more of them run at once than there are
// processors. TMPDIR and -parallel say otherwise, and benchmarks use a disk.
func TestMain(m *testing.M) {
	flag.Parse()
	var fs unix.Statfs_t
	if os.Getenv("TMPDIR") == "" && flag.Lookup("test.bench").Value.String() == "" && unix.Statfs(memory, &fs) == nil && fs.Type == unix.TMPFS_MAGIC && fs.Bavail*uint64(fs.Bsize) >= memoryLeast {
		os.Setenv("TMPDIR", memory)
	}
	if p := flag.Lookup("test.parallel"); p.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0)))
	}
	os.Exit(m.Run())
}

// TestOnDisk publishes, pulls, resumes and collects on a disk, where holes and
// flushing are not those of memory.
func TestOnDisk(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp(onDisk, "b9-repo-test-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := site{filepath.Join(dir, "repo"), Location{Path: filepath.Join(dir, "repo")}, Options{State: filepath.Join(dir, "state")}}
	r := s.create(t)
	image := sample(t, 1, 3000)
	first, _ := push(t, r, "web", image)
	second, tr := push(t, r, "web", change(t, image, 10, 700))
	if tr.New != 2*blockSize {
		t.Errorf("two changed blocks: %+v", tr)
	}
	dst := filepath.Join(dir, "pulled")
	if _, err := r.Pull(t.Context(), first, dst, PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dst, filepath.Join(dir, ".pulled.b9-pull")); err != nil { // as an interrupted pull leaves it
		t.Fatal(err)
	}
	tr, err = r.Pull(t.Context(), second, dst, PullOptions{})
	if err != nil || tr.New != 2*blockSize {
		t.Errorf("a pull over the version before: %+v, %v", tr, err)
	}
	sameFiles(t, dst, change(t, image, 10, 700))
	var st unix.Stat_t
	if err := unix.Stat(dst, &st); err != nil || st.Blocks*512 > second.Data+64<<10 {
		t.Errorf("pulled file takes %d bytes for %d of data", st.Blocks*512, second.Data)
	}
	if report, err := r.Clean(t.Context(), CleanOptions{Keep: 1, Steps: -1}); err != nil || len(report.Removed) != 1 || report.Removed[0].Version != first.Version {
		t.Errorf("%+v, %v", report, err)
	}
	intact(t, r)
}
