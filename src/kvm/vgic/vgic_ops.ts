/** The vgic as the table that the rest of KVM calls it through (arm_vgic.ts). */
import type { ArmVgic } from "../arm_vgic.ts";
import {
  kvmVgicFlushHwstate,
  kvmVgicInjectIrq,
  kvmVgicLoad,
  kvmVgicMapIsActive,
  kvmVgicMapPhysIrq,
  kvmVgicPut,
  kvmVgicResetMappedIrq,
  kvmVgicSetOwner,
  kvmVgicSyncHwstate,
  kvmVgicVcpuPendingIrq,
  kvmVgicVmcrSync,
} from "./vgic.ts";
import {
  kvmVgicCreate,
  kvmVgicDestroy,
  kvmVgicMapResources,
  kvmVgicVcpuDestroy,
  kvmVgicVcpuInit,
  vgicInit,
} from "./vgic_init.ts";
import { vgicV3DispatchSgi } from "./vgic_sgi.ts";

/** The functions of this folder that other files call. */
export const VGIC: ArmVgic = {
  kvmVgicCreate,
  vgicInit,
  kvmVgicDestroy,
  kvmVgicVcpuInit,
  kvmVgicVcpuDestroy,
  kvmVgicMapResources,
  kvmVgicFlushHwstate,
  kvmVgicSyncHwstate,
  kvmVgicLoad,
  kvmVgicPut,
  kvmVgicVmcrSync,
  kvmVgicVcpuPendingIrq,
  kvmVgicInjectIrq,
  kvmVgicMapPhysIrq,
  kvmVgicMapIsActive,
  kvmVgicResetMappedIrq,
  kvmVgicSetOwner,
  vgicV3DispatchSgi,
};
