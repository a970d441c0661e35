package fuse

import (
	"bufio"
	"os"
	"os/exec"
	"testing"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
)

// TestCalledByRoot tells apart root of the machine, root without the capability, and
// root of a user namespace, who has it there.
func TestCalledByRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for want, lines := range map[bool][][]string{
		true:  {{}},
		false: {{"setpriv", "--bounding-set=-sys_admin"}, {"setpriv", "--reuid=1000", "--clear-groups"}, {"unshare", "-Ur"}},
	} {
		for _, line := range lines {
			line = append(line, "sh", "-c", "echo ready; read -r end")
			if _, err := exec.LookPath(line[0]); err != nil {
				t.Skip(err)
			}
			cmd := exec.Command(line[0], line[1:]...)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			pid := uint32(cmd.Process.Pid)
			ctx := gofuse.NewContext(t.Context(), &gofuse.Caller{Pid: pid})
			if got := calledByRoot(ctx); got != want {
				t.Errorf("%q: %v", line, got)
			}
			in.Close()
			_ = cmd.Wait()
			if administers(pid) {
				t.Errorf("%q: it is gone", line)
			}
		}
	}
	if calledByRoot(t.Context()) {
		t.Error("nobody is known to have called")
	}
}
