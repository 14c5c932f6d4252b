package clienttest

import (
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// Step returns the event: the operation enters a phase or a step. failure may be nil.
func Step(phase operationsv1.Phase, step string, failure *operationsv1.Failure) *operationsv1.Event {
	return &operationsv1.Event{Phase: phase, Step: step, Body: &operationsv1.Event_Change{Change: &operationsv1.Change{Failure: failure}}}
}

// Restart returns the event: the operation waits for a restart of the daemon.
func Restart(step string) *operationsv1.Event {
	return &operationsv1.Event{Step: step, Body: &operationsv1.Event_Change{Change: &operationsv1.Change{Waiting: "restart"}}}
}

// Reboot returns the event: the operation waits for a reboot of the host.
func Reboot(step string) *operationsv1.Event {
	return &operationsv1.Event{Step: step, Body: &operationsv1.Event_Change{Change: &operationsv1.Change{Waiting: "reboot"}}}
}

// Progress returns the event: step has done of total bytes.
func Progress(step string, done, total int64) *operationsv1.Event {
	return &operationsv1.Event{Step: step, Body: &operationsv1.Event_Progress{Progress: &operationsv1.Progress{Done: done, Total: total}}}
}

// Part returns the event: part has done of total bytes, and the whole step has allDone of
// allTotal.
func Part(step, part string, done, total, allDone, allTotal int64) *operationsv1.Event {
	e := Progress(step, allDone, allTotal)
	e.GetProgress().Part, e.GetProgress().PartDone, e.GetProgress().PartTotal = part, done, total
	return e
}

// Log returns the event: step logs a message.
func Log(step string, severity operationsv1.Severity, message string) *operationsv1.Event {
	return &operationsv1.Event{Step: step, Body: &operationsv1.Event_Log{Log: &operationsv1.LogLine{Severity: severity, Message: message}}}
}
