package api

import (
	"log/slog"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

// errorToWire returns an error in upstream's form.
func errorToWire(err error) *tridentv1.TridentError {
	if err == nil {
		return nil
	}
	file, line := errkind.Location(err)
	return tridentError(errkind.NameOf(err), err.Error(), errkind.Hint(err), file, line)
}

// codeOfCategory returns the code that upstream gives to the errors of a category.
func codeOfCategory(c errkind.Category) codes.Code {
	switch c {
	case errkind.ExecutionEnvironment, errkind.Initialization, errkind.UnsupportedConfiguration:
		return codes.FailedPrecondition
	case errkind.InvalidInput:
		return codes.InvalidArgument
	case errkind.InternalFault:
		return codes.Internal
	}
	return codes.Unknown
}

// failureToUpstream returns the failure of an operation in upstream's form.
func failureToUpstream(f *operation.Failure) *tridentv1.TridentError {
	if f == nil {
		return nil
	}
	return tridentError(errkind.NameFrom(f.Name, f.Kind), f.Message, f.Hint, f.File, f.Line)
}

func tridentError(name errkind.Name, text, hint, file string, line int) *tridentv1.TridentError {
	first, _, _ := strings.Cut(text, "\n")
	full := text
	if hint != "" {
		full += "\n" + hint
	}
	return &tridentv1.TridentError{
		Kind: categoryToWire(name.Category), Subkind: name.Subkind(),
		Message: textToWire(full), ErrorMessage: textToWire(first), Location: locationToWire(file, line),
	}
}

func locationToWire(file string, line int) *tridentv1.FileLocation {
	if file == "" || line < 0 {
		return nil
	}
	return &tridentv1.FileLocation{Path: textToWire(file), Line: uint32(line)}
}

// categoryToWire relies on the categories having the same words on the wire:
// HealthChecks is HEALTH_CHECKS_ERROR.
func categoryToWire(c errkind.Category) tridentv1.TridentErrorKind {
	word := strings.ReplaceAll(kebab(c), "-", "_")
	return tridentv1.TridentErrorKind(tridentv1.TridentErrorKind_value[strings.ToUpper(word)+"_ERROR"])
}

func kebab(c errkind.Category) string { return errkind.Name{Variant: string(c)}.Subkind() }

// lastErrorToWire converts a recorded error, of Trident or of upstream.
func lastErrorToWire(e *hoststate.LastError) *tridentv1.TridentError {
	if e == nil {
		return nil
	}
	full := e.Message
	if e.Cause != "" {
		full += "\n" + e.Cause
	}
	file, line := e.Location, uint64(0)
	if i := strings.LastIndexByte(file, ':'); i >= 0 {
		if n, err := strconv.ParseUint(file[i+1:], 10, 31); err == nil {
			file, line = file[:i], n
		}
	}
	first, _, _ := strings.Cut(e.Message, "\n")
	return &tridentv1.TridentError{
		Kind: categoryFromText(e.Category), Subkind: textToWire(e.Name),
		Message: textToWire(full), ErrorMessage: textToWire(first), Location: locationToWire(file, int(line)),
	}
}

// categoryFromText reads a recorded category in kebab case; a longer word counts by its
// beginning.
func categoryFromText(text string) tridentv1.TridentErrorKind {
	for _, c := range []errkind.Category{
		errkind.ExecutionEnvironment, errkind.HealthChecks, errkind.Initialization, errkind.InvalidInput, errkind.Servicing,
		errkind.UnsupportedConfiguration, errkind.InternalFault,
	} {
		if strings.HasPrefix(strings.ToLower(text), kebab(c)) {
			return categoryToWire(c)
		}
	}
	return tridentv1.TridentErrorKind_TRIDENT_ERROR_KIND_UNSPECIFIED
}

// logToUpstream returns the line of upstream's stream for event e after another event, or
// nil if there is none.
func logToUpstream(e, before operation.Event) *tridentv1.Log {
	moved := e.Type == operation.Change && e.Waiting == "" && (e.Step != before.Step || e.Phase != before.Phase)
	line := func(level tridentv1.LogLevel, text string) *tridentv1.Log {
		return &tridentv1.Log{Level: level, Message: textToWire(text), Module: e.Step, Target: "trident"}
	}
	switch {
	case e.Type == operation.Halting && e.Failure != nil:
		return line(tridentv1.LogLevel_LOG_LEVEL_ERROR, "halted, and tries again: "+e.Failure.Message)
	case e.Type == operation.Halting:
		return line(tridentv1.LogLevel_LOG_LEVEL_INFO, "goes on")
	case e.Type == operation.Log:
		return line(levelToWire(e.Level), e.Message)
	case moved && e.Phase == operation.Doing:
		return line(tridentv1.LogLevel_LOG_LEVEL_INFO, "step: "+e.Step)
	case moved && e.Phase == operation.Undoing && e.Failure != nil && before.Failure == nil:
		return line(tridentv1.LogLevel_LOG_LEVEL_ERROR, e.Failure.Message+"; undo: "+e.Step)
	case moved && e.Phase == operation.Undoing:
		return line(tridentv1.LogLevel_LOG_LEVEL_WARN, "undo: "+e.Step)
	}
	return nil
}

func levelToWire(l slog.Level) tridentv1.LogLevel {
	switch {
	case l < slog.LevelDebug:
		return tridentv1.LogLevel_LOG_LEVEL_TRACE
	case l < slog.LevelInfo:
		return tridentv1.LogLevel_LOG_LEVEL_DEBUG
	case l < slog.LevelWarn:
		return tridentv1.LogLevel_LOG_LEVEL_INFO
	case l < slog.LevelError:
		return tridentv1.LogLevel_LOG_LEVEL_WARN
	}
	return tridentv1.LogLevel_LOG_LEVEL_ERROR
}

func kindToWire(k servicing.Kind) tridentv1.ServicingKind {
	switch k {
	case servicing.None:
		return tridentv1.ServicingKind_SERVICING_KIND_NONE_REQUIRED
	case servicing.RuntimeUpdate:
		return tridentv1.ServicingKind_SERVICING_KIND_RUNTIME_UPDATE
	case servicing.ABUpdate:
		return tridentv1.ServicingKind_SERVICING_KIND_AB_UPDATE
	case servicing.CleanInstall:
		return tridentv1.ServicingKind_SERVICING_KIND_CLEAN_INSTALL
	case servicing.ABRollback:
		return tridentv1.ServicingKind_SERVICING_KIND_MANUAL_ROLLBACK_AB
	case servicing.RuntimeRollback:
		return tridentv1.ServicingKind_SERVICING_KIND_MANUAL_ROLLBACK_RUNTIME
	}
	return tridentv1.ServicingKind_SERVICING_KIND_UNSPECIFIED
}
