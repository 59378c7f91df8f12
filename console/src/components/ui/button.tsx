import { cva, type VariantProps } from "class-variance-authority";
import type { ComponentProps, ReactNode } from "react";
import { cn } from "@/components/cn";
import { Tip } from "./tooltip";

const buttonStyle = cva(
  "inline-flex shrink-0 items-center justify-center gap-2 rounded-lg text-sm font-medium whitespace-nowrap select-none transition-colors focus-ring disabled:pointer-events-none disabled:opacity-50 [&_svg]:size-4 [&_svg]:shrink-0",
  {
    variants: {
      look: {
        main: "bg-accent text-on-accent hover:bg-accent-strong",
        plain: "border border-line bg-raised text-strong hover:bg-hover",
        ghost: "text-soft hover:bg-hover hover:text-strong",
        danger: "bg-bad text-on-accent hover:opacity-90",
      },
      size: { normal: "h-9 px-3.5", small: "h-8 px-2.5 text-[13px]", icon: "size-8" },
    },
    defaultVariants: { look: "plain", size: "normal" },
  },
);

type ButtonProps = ComponentProps<"button"> & VariantProps<typeof buttonStyle>;

export function Button({ look, size, className, ...props }: ButtonProps) {
  return <button type="button" className={cn(buttonStyle({ look, size }), className)} {...props} />;
}

/** A button that is a picture: `label` names it, for readers and as a tip. */
export function IconButton({
  label,
  children,
  ...props
}: Omit<ButtonProps, "size"> & { label: string; children: ReactNode }) {
  return (
    <Tip text={label}>
      <Button look="ghost" size="icon" aria-label={label} {...props}>
        {children}
      </Button>
    </Tip>
  );
}
