package trial_test

import (
	"fmt"

	"b9.build/b9/engine/vm/trial"
)

// A report is what boot_test() gives as its output "report".
func ExampleReadReport() {
	report, err := trial.ReadReport([]byte(`{
  "schema": "boot_test/1", "machine": "web", "accelerator": "tcg", "channel": "guest agent", "status": "failed", "seconds": 61.5,
  "checks": [
    {"name": "wait_console login:", "kind": "console", "status": "passed", "seconds": 60.1},
    {"name": "unit_active nginx", "kind": "run", "status": "failed", "seconds": 1.4, "error": "the command ended with status 3, want 0"},
    {"name": "http / at port 80", "kind": "http", "status": "not run", "seconds": 0}
  ]
}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range report.Checks {
		switch c.Status {
		case trial.Passed:
			fmt.Println("ok", c.Name)
		case trial.Failed:
			fmt.Println("failed", c.Name+":", c.Error)
		case trial.NotRun:
			fmt.Println("skipped", c.Name)
		}
	}
	// Output:
	// ok wait_console login:
	// failed unit_active nginx: the command ended with status 3, want 0
	// skipped http / at port 80
}
