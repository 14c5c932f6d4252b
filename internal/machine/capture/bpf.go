package capture

import (
	"github.com/trident-project/trident/internal/errkind"
)

// An Instruction is one of classic BPF (linux/filter.h, struct sock_filter).
type Instruction struct{ Op, Jt, Jf, K uint32 }

// maxInstructions is BPF_MAXINSNS.
const maxInstructions = 4096

// Parts of an operation code (linux/bpf_common.h).
const (
	classMask = 0x07
	classLD   = 0x00
	classLDX  = 0x01
	classST   = 0x02
	classSTX  = 0x03
	classALU  = 0x04
	classJMP  = 0x05
	classRET  = 0x06
	classMISC = 0x07

	modeMask = 0xe0
	modeIMM  = 0x00
	modeABS  = 0x20
	modeIND  = 0x40
	modeMEM  = 0x60
	modeLEN  = 0x80
	modeMSH  = 0xa0

	sizeMask = 0x18
	sizeB    = 0x10

	sourceX  = 0x08
	cells    = 16 // of the memory (BPF_MEMWORDS)
	opDiv    = 0x30
	opLsh    = 0x60
	opRsh    = 0x70
	opNeg    = 0x80
	opMod    = 0x90
	opXor    = 0xa0
	jumpJA   = 0x00
	jumpJSET = 0x40
	retA     = 0x10
	miscTXA  = 0x80
)

// Check fails, with Invalid, for a program that is not one of classic BPF: unknown operations,
// jumps out of the program, memory that does not exist, a constant division by zero, no return
// at the end. It has no loops, because all jumps lead forward. No instruction is no program, and
// valid. The kernel checks once more.
func Check(program []Instruction) error {
	if len(program) == 0 {
		return nil
	}
	if len(program) > maxInstructions {
		return errkind.Errorf(errkind.Invalid, "the program has %d instructions, %d are the most", len(program), maxInstructions)
	}
	for i, in := range program {
		if in.Op > 0xff || in.Jt > 0xff || in.Jf > 0xff {
			return errkind.Errorf(errkind.Invalid, "instruction %d: an operation or a jump is more than 255", i)
		}
		if !in.isKnown() {
			return errkind.Errorf(errkind.Invalid, "instruction %d: the operation %#02x is unknown, or its constant is not valid", i, in.Op)
		}
		if in.Op&classMask != classJMP {
			continue
		}
		left := uint64(len(program) - i - 1)
		jumps := []uint32{in.Jt, in.Jf}
		if in.Op == classJMP|jumpJA {
			jumps = []uint32{in.K}
		}
		for _, jump := range jumps {
			if uint64(jump) >= left {
				return errkind.Errorf(errkind.Invalid, "instruction %d: it jumps out of the program", i)
			}
		}
	}
	if last := program[len(program)-1]; last.Op&classMask != classRET {
		return errkind.Errorf(errkind.Invalid, "the program does not end with a return")
	}
	return nil
}

func (in Instruction) isKnown() bool {
	op := in.Op
	switch op & classMask {
	case classLD, classLDX:
		return in.isLoad()
	case classST, classSTX:
		return op&^classMask == 0 && in.K < cells
	case classALU:
		return in.isArithmetic()
	case classJMP:
		code := op & 0xf0
		return code <= jumpJSET && (code != jumpJA || op&sourceX == 0)
	case classRET:
		return op == classRET || op == classRET|retA
	case classMISC:
		return op == classMISC || op == classMISC|miscTXA
	}
	return false
}

func (in Instruction) isLoad() bool {
	mode, size := in.Op&modeMask, in.Op&sizeMask
	if in.Op&classMask == classLDX {
		switch mode {
		case modeIMM, modeLEN:
			return size == 0
		case modeMEM:
			return size == 0 && in.K < cells
		case modeMSH:
			return size == sizeB
		}
		return false
	}
	switch mode {
	case modeABS, modeIND:
		return size != sizeMask
	case modeIMM, modeLEN:
		return size == 0
	case modeMEM:
		return size == 0 && in.K < cells
	}
	return false
}

func (in Instruction) isArithmetic() bool {
	code, isConstant := in.Op&0xf0, in.Op&sourceX == 0
	switch code {
	case opDiv, opMod:
		return !isConstant || in.K != 0
	case opLsh, opRsh:
		return !isConstant || in.K < 32
	case opNeg:
		return isConstant
	}
	return code <= opXor
}
