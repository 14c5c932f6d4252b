//go:build unix

package client

import (
	"os/exec"
	"syscall"
)

// detach gives ssh a session of its own: an interrupt at the terminal is for the program of
// the user, which may still need the connection, and ssh has no terminal to ask questions.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }
