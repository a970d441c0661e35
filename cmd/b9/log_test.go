package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var logFiles = map[string]string{
	"b9.toml": "", "B9BUILD.star": "file(name = \"a\", content = \"x\")\nresize(image(size = \"64M\"), \"64K\", name = \"fails\")\n",
}

// TestLogFile writes down on each level what happens, and nothing that the level leaves out.
func TestLogFile(t *testing.T) {
	s := newSite(t, logFiles)
	for _, c := range []struct{ level, has, hasNot string }{
		{"error", "level=ERROR msg=failed label=//:fails", "level=INFO"},
		{"warn", "level=ERROR msg=error text=", "level=INFO"},
		{"info", "level=INFO msg=begin command=build", "level=DEBUG"},
		{"info", "level=INFO msg=end command=build status=1", "msg=cached"},
		{"debug", "level=DEBUG msg=cached label=//:a", ""},
	} {
		path := filepath.Join(s.dir, "log-"+c.level)
		status, _, errs := s.b9("build", "-k", "//:a", "//:fails", "--log-file", "log-"+c.level, "--log-level", c.level)
		text, err := os.ReadFile(path)
		if err != nil || status != 1 || !strings.Contains(string(text), c.has) || c.hasNot != "" && strings.Contains(string(text), c.hasNot) {
			t.Errorf("%s: status %d, %v, want %s, the log has\n%s%s", c.level, status, err, c.has, text, errs)
		}
		if !strings.HasPrefix(string(text), "time=20") {
			t.Errorf("%s: no time: %s", c.level, text)
		}
	}
	// It is written on, by any command, and what other flags do stays.
	for range 2 {
		if status, out, _ := s.b9("query", "//:a", "--log-file", "again", "--output", "label"); status != 0 || out != "//:a\n" {
			t.Errorf("status %d, %s", status, out)
		}
	}
	if text, _ := os.ReadFile(filepath.Join(s.dir, "again")); strings.Count(string(text), "msg=end command=query status=0") != 2 {
		t.Errorf("%s", text)
	}
	// A level alone means standard error.
	if _, out, errs := s.b9("query", "//:a", "--log-level", "debug"); !strings.Contains(errs, "msg=begin") || strings.Contains(out, "msg=") {
		t.Errorf("%s%s", out, errs)
	}
}

// TestLogFileMistakes are told before anything is done; a log that is full hinders nothing.
func TestLogFileMistakes(t *testing.T) {
	s := newSite(t, logFiles)
	for flag, want := range map[string]string{
		"--log-level=loud": "--log-level loud: want error, warn, info, debug", "--log-level=inof": `did you mean "info"`, "--log-file=no/where": "--log-file no/where: open ", "--log-file=.": "--log-file .: open ",
	} {
		if status, out, errs := s.b9("build", "//:a", flag); status != 2 || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%s: status %d, %s%s", flag, status, out, errs)
		}
	}
	if status, _, errs := s.b9("build", "//:a", "--log-file", "/dev/full"); status != 0 || !strings.Contains(errs, "b9: warning: --log-file /dev/full: ") {
		t.Errorf("status %d, %s", status, errs)
	}
}

// TestLogToJournal has a socket in the place of the journal's, and one where there is none.
func TestLogToJournal(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	s := newFaultSite(t)
	if err := os.WriteFile(filepath.Join(s.work, "ws", "B9BUILD.star"), []byte(logFiles["B9BUILD.star"]), 0o644); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "socket")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	aside := func(mount string) []string {
		return []string{"unshare", "-m", "sh", "-c", "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && " + mount + ` && exec "$@"`, "sh"}
	}
	journal := aside("touch /run/systemd/journal/socket && mount --bind " + socket + " /run/systemd/journal/socket")
	args := []string{"build", "-k", "//:a", "//:fails", "--log-file", "journal"}
	if status, out := s.run(journal, args...); status != 1 {
		t.Fatalf("status %d: %s", status, out)
	}
	var entries []string
	for buf := make([]byte, 1<<16); len(entries) == 0 || !strings.Contains(entries[len(entries)-1], "MESSAGE=end"); {
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, entries)
		}
		entries = append(entries, string(buf[:n]))
	}
	all := strings.Join(entries, "\n")
	for _, want := range []string{"SYSLOG_IDENTIFIER=b9\n", "B9_LABEL=//:a\n", "B9_LABEL=//:fails\n", "PRIORITY=3\n", "PRIORITY=6\n", "B9_STATUS=1\n", "MESSAGE=done label=//:a"} {
		if !strings.Contains(all, want) {
			t.Errorf("no entry has %q:\n%s", want, all)
		}
	}
	if status, out := s.run(aside("true"), args...); status != 2 || !strings.Contains(out, "--log-file journal: no journal of systemd answers") {
		t.Errorf("without a journal: status %d: %s", status, out)
	}
}
